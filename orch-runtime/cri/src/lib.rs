//! Container runtime seam over CRI v1 (containerd, CRI-O).

//! Node agent: pod lifecycle, container runtime seam, volumes, probes, streaming.

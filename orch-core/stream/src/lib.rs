//! SPDY/3.1 and WebSocket channel protocols of exec, attach and port-forward.

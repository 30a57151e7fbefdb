"""What the operating system has besides sockets: signals to process 1, systemd, inotify, memory, the log."""

"""How a process is: counted, shown over HTTP, drawn in a terminal."""

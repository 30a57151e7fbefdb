"""The `pytunnel` command: words of people in, exit codes and one-line errors out."""

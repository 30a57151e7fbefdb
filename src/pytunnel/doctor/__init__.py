"""`pytunnel doctor`: find out what is wrong with a node's set-up before a state transfer does."""

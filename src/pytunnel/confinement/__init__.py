"""What a process takes from itself once it knows what it needs: privileges, core dumps, files and ports."""

"""Certificates of a cluster: made, stored, shown, checked, and changed for those of another CA."""

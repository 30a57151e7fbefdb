"""What several tests need: programs started as users start them, and values made for them."""

"""What calls cost: prices, and estimates before the call."""

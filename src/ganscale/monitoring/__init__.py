"""What is written while a run goes on, and for whom."""

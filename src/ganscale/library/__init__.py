"""What a program imports: `from ganscale import Generator`, and so on."""

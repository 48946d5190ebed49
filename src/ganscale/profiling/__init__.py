"""What a step takes: counted operation by operation, and measured on a device."""

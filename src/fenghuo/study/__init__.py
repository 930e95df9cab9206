"""Many runs → what is luck, and what is not."""

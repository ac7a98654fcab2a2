"""What is wrong with weights: what they are, what is measured on them, and what follows."""

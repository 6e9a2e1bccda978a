"""Labs: what a step is worth, what a student starts from, how it is graded."""

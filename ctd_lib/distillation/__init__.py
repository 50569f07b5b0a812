"""What distillation is made of: the student's start, the teacher's outputs, relations, tasks."""

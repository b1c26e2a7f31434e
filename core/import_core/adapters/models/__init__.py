"""Models: what turns texts and images into numbers and judgements."""

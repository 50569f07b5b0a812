"""Scores by the official rules, how sure a comparison of them is, and where they are lost."""

"""From records to the tables, figures and pieces of pages that the book includes."""

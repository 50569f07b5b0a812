"""Where text and labelled data come from, their file formats, and corpora packed to length."""

"""From each kind of source to the examples of a task, split into train and test."""

from ctd_lib.tasks.loaders.common import Loaded, Request

__all__ = ["Loaded", "Request"]

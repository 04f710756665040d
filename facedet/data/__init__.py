"""Data sets: readers and writers of annotation formats, downloads, checks, drawing."""

"""The feedback package keeps its promises."""

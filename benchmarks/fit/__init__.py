"""Programs that make the fitted numbers which the package ships."""

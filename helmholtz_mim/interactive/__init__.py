"Figures that are alive in the page."

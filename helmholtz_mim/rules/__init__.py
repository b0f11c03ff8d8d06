"Rules that allocate hidden patterns instead of sampling them."

"The runs behind the results of the book."

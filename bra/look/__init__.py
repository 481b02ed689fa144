"""What BRA layers do with images: with one (`views`), and over a data set (`statistics`)."""

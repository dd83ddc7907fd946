"""What each route takes and answers, as data: the published description is made of this."""

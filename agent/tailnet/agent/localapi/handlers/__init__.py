"""What answers each route: a function of the backend and the request."""

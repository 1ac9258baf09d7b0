"""What routers' metrics say of the requests that pass through them."""

"""A site with models, views and admin pages that are recorded."""

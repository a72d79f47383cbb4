"""A stranger's site: people with UUID keys, known by their e-mail address, without roles."""

"""The server: a live feed, REST and GraphQL over one state file, for the dashboard and for other programs."""

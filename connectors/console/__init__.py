"""The console: a page that shows campaigns, KPIs and the state of the line."""

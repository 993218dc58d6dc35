"""Reading sentences and finding their visually-grounded words."""

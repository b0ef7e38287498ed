"""What follows from an epoch, an end and a fault; knows no executor and imports no ray."""

"""The stages on Kafka and the Faust app that feeds them."""

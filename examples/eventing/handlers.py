"""What an end user of the product wrote: a function for each kind of event that they care for."""


def order_created(event):
    print("an order of", event["customer"])
    return {"total": sum(item["price"] * item["count"] for item in event["items"])}


def order_cancelled(event):
    raise ValueError(f"there is no order {event['order']}")

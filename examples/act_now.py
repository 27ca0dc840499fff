"""Act: what these calls do is done when they return, on every node. Nothing is restarted."""

from onebeat import Conflict, Onebeat, call, hours, interval, minutes, once


def main() -> None:
    """Put, edit, pause, look at and delete schedules of a shop."""
    with Onebeat(zone="UTC", actor="the shop") as beat:
        close = beat.schedules.put("close-order-17", once(in_=minutes(30)), call("shop.orders:close", 17))
        print(f"{close.schedule.name} is due at {close.schedule.next_at}")
        for warning in close.warnings:
            print(f"  but: {warning}")

        beat.schedules.put("stock", interval(minutes=5), "shop.stock:refresh", overlap="skip")
        beat.schedules.edit("stock", trigger=interval(hours=1), reason="the supplier asked for it")
        beat.schedules.pause("stock", reason="stocktaking")
        beat.schedules.resume("stock")

        try:
            beat.schedules.put("stock", interval(minutes=1), "shop.stock:refresh")
        except Conflict as error:
            print(f"refused: {error}")

        for change in beat.schedules.trail("stock"):
            print(f"  version {change.version}: {change.action} by {change.actor} ({change.reason})")

        beat.schedules.edit("close-order-17", trigger=once(in_=hours(2)))
        beat.schedules.delete("close-order-17", reason="the customer paid")
        print([schedule.name for schedule in beat.schedules.list()])


if __name__ == "__main__":
    main()

"""An application service and a push gateway: whom a server tells things, and what they were told."""

import random

from aiohttp import web

# How often an application service takes a transaction and then does not say so. Rare: each costs a second of waiting.
FORGETS_TO_ANSWER = 0.03
TOKENS = {"as_token": "of the service to the server", "hs_token": "of the server to the service"}


class Told:
    """Listens on a port of its own for as long as `begin` to `end`."""

    def __init__(self):
        # Events by transaction id; how often each event came, transactions that came again counted once.
        self.transactions, self.events = {}, {}
        self.repeated, self.wrong = 0, []
        # How often each event was notified of.
        self.pushed = {}

    async def begin(self):
        app = web.Application(client_max_size=64 << 20)
        app.router.add_put("/_matrix/app/v1/transactions/{txn}", self.transaction)
        app.router.add_post("/_matrix/push/v1/notify", self.notify)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def end(self):
        await self.runner.cleanup()

    def registration(self, users):
        """For a service that is told of the rooms of these."""
        namespaces = {"users": [{"exclusive": False, "regex": users}], "aliases": [], "rooms": []}
        names = {"id": "faults", "sender_localpart": "faults-service", "url": self.url, "rate_limited": False}
        return {**names, **TOKENS, "namespaces": namespaces}

    async def transaction(self, request):
        txn, body = request.match_info["txn"], await request.json()
        events = [event["event_id"] for event in body["events"]]
        if txn not in self.transactions:
            self.transactions[txn] = events
            for event in events:
                self.events[event] = self.events.get(event, 0) + 1
        else:
            self.repeated += 1
            if events != self.transactions[txn]:
                before = len(self.transactions[txn])
                self.wrong.append(f"transaction {txn} came again with other events: {before} before, {len(events)} now")
        if random.random() < FORGETS_TO_ANSWER:
            return web.json_response({}, status=503)
        return web.json_response({})

    async def notify(self, request):
        event = (await request.json())["notification"].get("event_id")
        if event:
            self.pushed[event] = self.pushed.get(event, 0) + 1
        return web.json_response({"rejected": []})

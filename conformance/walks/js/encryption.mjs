// A walk through an encrypted day with matrix-js-sdk and its Rust crypto: two people, four devices, one encrypted room.
//
// usage: node encryption.mjs BASE_URL   with KOINE_DATA naming the server's data folder, if that can be looked at
//
// Each reads what the other wrote, devices are vouched for by keys and by emoji, a new device gets old keys from the backup, and what was
// written stands nowhere in the server's data folder. Prints one line per step. Ends with status 1 at the first wrong
// thing, saying what was expected and what was seen.

import { randomBytes } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import sdk, { ClientEvent, SyncState } from "matrix-js-sdk";
import { CryptoEvent, VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";

// The SDK is written for Node 22; this is all that 20 lacks of it.
Promise.withResolvers ??= function () {
    const parts = {};
    parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }));
    return parts;
};

// What the SDK asks for by itself fails when a client logs out or stops; steps await what they ask for.
process.on("unhandledRejection", () => {});

const PASSWORD = "correct horse battery staple";
// How long something that another device did may take until it is seen.
const SEEN_WITHIN_MS = 20_000;
const POLL_MS = 10;
const MESSAGES = 60;

class Wrong extends Error {}

function expect(what, expected, seen) {
    if (JSON.stringify(expected) !== JSON.stringify(seen)) {
        throw new Wrong(`${what}: expected ${JSON.stringify(expected)}, seen ${JSON.stringify(seen)}`);
    }
}

/** Looks until there is something to see. */
async function see(what, look) {
    const deadline = Date.now() + SEEN_WITHIN_MS;
    for (;;) {
        const found = await look();
        if (found) return found;
        if (Date.now() > deadline) throw new Wrong(`expected ${what} within ${SEEN_WITHIN_MS} ms, seen nothing of it`);
        await new Promise((resume) => setTimeout(resume, POLL_MS));
    }
}

const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => quiet };
const base = process.argv[2];
const folder = process.env.KOINE_DATA;
if (!base) {
    console.error("usage: node encryption.mjs BASE_URL");
    process.exit(2);
}
const anonymous = () => sdk.createClient({ baseUrl: base, logger: quiet });
const running = [];

/** A client that syncs and encrypts by itself. `recovery` is what its user would type. */
async function start({ user_id, access_token, device_id }, recovery = {}) {
    const client = sdk.createClient({
        baseUrl: base,
        userId: user_id,
        accessToken: access_token,
        deviceId: device_id,
        disableVoip: true,
        logger: quiet,
        cryptoCallbacks: {
            getSecretStorageKey: async ({ keys }) => [Object.keys(keys)[0], recovery.key],
            cacheSecretStorageKey: (_id, _info, key) => (recovery.key = key),
        },
    });
    running.push(client);
    await client.initRustCrypto({ useIndexedDB: false });
    const prepared = new Promise((resume) => {
        client.on(ClientEvent.Sync, (state) => state === SyncState.Prepared && resume(true));
    });
    await client.startClient({ initialSyncLimit: 100, lazyLoadMembers: true, threadSupport: true, pollTimeout: 5000 });
    const given = new Promise((resume) => setTimeout(resume, SEEN_WITHIN_MS, false));
    if (!(await Promise.race([prepared, given]))) throw new Wrong("expected the first sync, seen none");
    return client;
}

const register = (name) =>
    anonymous().registerRequest({ username: name, password: PASSWORD, auth: { type: "m.login.dummy" } });

const logIn = (user) =>
    anonymous().loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user }, password: PASSWORD });

const suffix = Date.now().toString(36);
const names = { alice: `alice-${suffix}`, bob: `bob-${suffix}` };
// Texts that nobody but their readers may ever see, and one that the server may.
const secret = (what) => `${what} ${randomBytes(16).toString("hex")}`;
const written = [];
// Several words: the store packs what is large, which may break one of them.
const open = Array.from({ length: 8 }, () => secret("open"));
const recovery = {};
const w = {};

const say = async (client, body) => {
    written.push(body);
    return (await client.sendEvent(w.room, "m.room.message", { msgtype: "m.text", body })).event_id;
};

/** Waits until `client` can read the event. */
const read = (client, id) =>
    see(`${id} in plain text for ${client.getUserId()} on ${client.getDeviceId()}`, () => {
        const event = client.getRoom(w.room)?.findEventById(id);
        return event && !event.isDecryptionFailure() && event.getContent().body;
    });

const inTime = async (what, promise) => {
    const given = new Promise((resume) => setTimeout(resume, SEEN_WITHIN_MS, undefined));
    const found = await Promise.race([promise, given]);
    if (found === undefined) throw new Wrong(`expected ${what} within ${SEEN_WITHIN_MS} ms, seen nothing of it`);
    return found;
};

/** Both sides look at their emoji, find that they are the same, and say so. */
const compare = async (asking, asked) => {
    await asked.accept();
    await see("the request accepted", () => asking.phase === VerificationPhase.Ready);
    const one = await asking.startVerification("m.sas.v1");
    const other = await see("the comparison on the other side", () => asked.verifier);
    const emoji = (verifier) =>
        new Promise((resume) => {
            const shown = verifier.getShowSasCallbacks();
            if (shown) resume(shown);
            else verifier.once(VerifierEvent.ShowSas, resume);
        });
    const shown = [emoji(one), emoji(other)];
    const done = [one.verify(), other.verify()];
    const [mine, yours] = await inTime("emoji on both sides", Promise.all(shown));
    expect("the same emoji", mine.sas.emoji, yours.sas.emoji);
    expect("seven of them", 7, mine.sas.emoji.length);
    await Promise.all([mine.confirm(), yours.confirm()]);
    await inTime("the end of the comparison", Promise.all(done).then(() => true));
};

const STEPS = {
    "register two accounts with keys": async () => {
        w.alice = await start(await register(names.alice), recovery);
        w.bob = await start(await register(names.bob));
        for (const [one, other] of [[w.alice, w.bob], [w.bob, w.alice]]) {
            await see("device keys", async () => {
                const devices = await one.getCrypto().getUserDeviceInfo([other.getUserId()], true);
                return devices.get(other.getUserId())?.size === 1;
            });
        }
    },
    "make an encrypted room": async () => {
        const initial_state = [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }];
        w.room = (await w.alice.createRoom({ preset: "private_chat", invite: [w.bob.getUserId()], initial_state })).room_id;
        await see("the invitation", () => w.bob.getRoom(w.room)?.getMyMembership() === "invite");
        await w.bob.joinRoom(w.room);
        for (const client of [w.alice, w.bob]) {
            await see("both members", () => client.getRoom(w.room)?.getJoinedMemberCount() === 2);
            await see("encryption", () => client.getCrypto().isEncryptionEnabledInRoom(w.room));
        }
    },
    "each reads what the other wrote": async () => {
        const [hers, his] = [secret("hers"), secret("his")];
        w.hers = await say(w.alice, hers);
        expect("on bob's device", hers, await read(w.bob, w.hers));
        const kind = w.bob.getRoom(w.room).findEventById(w.hers).getWireType();
        expect("type on the wire", "m.room.encrypted", kind);
        expect("on alice's device", his, await read(w.alice, await say(w.bob, his)));
    },
    "a new device reads what comes after it": async () => {
        w.bobs_second = await start(await logIn(names.bob));
        await see("bob's second device on alice's", async () => {
            const devices = await w.alice.getCrypto().getUserDeviceInfo([w.bob.getUserId()], false);
            return devices.get(w.bob.getUserId())?.has(w.bobs_second.getDeviceId());
        });
        const text = secret("second");
        const id = await say(w.alice, text);
        for (const client of [w.bob, w.bobs_second]) expect("text", text, await read(client, id));
    },
    "one-time keys are claimed and made anew": async () => {
        const count = () => w.bob.http.authedRequest("POST", "/keys/upload", undefined, {});
        const left = await see("fresh keys", async () => {
            const { one_time_key_counts } = await count();
            return one_time_key_counts.signed_curve25519 >= 50 && one_time_key_counts.signed_curve25519;
        });
        expect("not too many", true, left <= 100);
    },
    "publish cross-signing keys and a backup": async () => {
        const crypto = w.alice.getCrypto();
        await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: (make) => make(null) });
        const key = await crypto.createRecoveryKeyFromPassphrase();
        recovery.key = key.privateKey;
        await crypto.bootstrapSecretStorage({ createSecretStorageKey: async () => key, setupNewSecretStorage: true, setupNewKeyBackup: true });
        await crypto.checkKeyBackupAndEnable();
        expect("cross-signing is ready", true, await crypto.isCrossSigningReady());
        const bob = w.bob.getCrypto();
        await see("alice's device vouched for, on bob's", async () => {
            await bob.getUserDeviceInfo([w.alice.getUserId()], true);
            const status = await bob.getDeviceVerificationStatus(w.alice.getUserId(), w.alice.getDeviceId());
            return status?.signedByOwner;
        });
        await see("keys in the backup", async () => {
            const version = await w.alice.http.authedRequest("GET", "/room_keys/version");
            return version.count >= 2;
        });
    },
    "many messages, in order": async () => {
        const bodies = Array.from({ length: MESSAGES }, (_, n) => secret(`message ${n}`));
        const ids = [];
        for (const [n, body] of bodies.entries()) ids.push(await say(n % 2 ? w.alice : w.bob, body));
        for (const client of [w.alice, w.bob, w.bobs_second]) {
            for (const [n, id] of ids.entries()) expect(`message ${n}`, bodies[n], await read(client, id));
        }
    },
    "a new device reads the past out of the backup": async () => {
        w.alices_second = await start(await logIn(names.alice), recovery);
        const crypto = w.alices_second.getCrypto();
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto.restoreKeyBackup();
        await crypto.bootstrapCrossSigning({});
        expect("text of before", written[0], await read(w.alices_second, w.hers));
        await see("the new device vouched for, on bob's", async () => {
            const bob = w.bob.getCrypto();
            const status = await bob.getDeviceVerificationStatus(w.alice.getUserId(), w.alices_second.getDeviceId());
            return status?.signedByOwner;
        });
    },
    "two devices compare emoji": async () => {
        await w.bob.getCrypto().bootstrapCrossSigning({ authUploadDeviceSigningKeys: (make) => make(null) });
        const asked = new Promise((resume) => w.bob.once(CryptoEvent.VerificationRequestReceived, resume));
        const asking = await w.bobs_second.getCrypto().requestOwnUserVerification();
        await compare(asking, await inTime("the request on the other device", asked));
        await see("the second device vouched for, on alice's", async () => {
            const alice = w.alice.getCrypto();
            await alice.getUserDeviceInfo([w.bob.getUserId()], true);
            const status = await alice.getDeviceVerificationStatus(w.bob.getUserId(), w.bobs_second.getDeviceId());
            return status?.signedByOwner;
        });
    },
    "two people compare emoji": async () => {
        const asked = new Promise((resume) => w.bob.once(CryptoEvent.VerificationRequestReceived, resume));
        const asking = await w.alice.getCrypto().requestVerificationDM(w.bob.getUserId(), w.room);
        await compare(asking, await inTime("the request in the room", asked));
        for (const [one, other] of [[w.alice, w.bob], [w.bob, w.alice]]) {
            await see("the other verified", async () => {
                const status = await one.getCrypto().getUserVerificationStatus(other.getUserId());
                return status.isCrossSigningVerified();
            });
        }
    },
    "a thread in an encrypted room": async () => {
        const root = await say(w.bob, secret("root"));
        await read(w.alices_second, root);
        const body = secret("in the thread");
        written.push(body);
        const content = { msgtype: "m.text", body, "m.relates_to": { rel_type: "m.thread", event_id: root } };
        // The SDK trips over its own echo when that comes before the answer, and sends nothing more for half a minute. So a device speaks that says
        // nothing afterwards; whether it was sent is seen below.
        w.alices_second.sendEvent(w.room, root, "m.room.message", content).catch(() => undefined);
        const thread = await see("the thread on bob's device", () => w.bob.getRoom(w.room).getThread(root));
        await see("its text", () => thread.events.some((event) => event.getContent().body === body));
        const { chunk } = await w.bob.createThreadListMessagesRequest(w.room, null, 20);
        expect("threads", [root], chunk.map((event) => event.event_id));
    },
    "who logged out gets nothing any more": async () => {
        const gone = w.bobs_second.getDeviceId();
        await w.bobs_second.logout(true);
        await see("bob with one device", async () => {
            const devices = await w.alice.getCrypto().getUserDeviceInfo([w.bob.getUserId()], false);
            return !devices.get(w.bob.getUserId())?.has(gone);
        });
        const text = secret("after");
        expect("text", text, await read(w.bob, await say(w.alice, text)));
    },
    "the server knows nothing of it": async () => {
        const made = await w.alice.createRoom({ topic: open.join(" ") });
        expect("an open room", true, Boolean(made.room_id));
        if (!folder) return;
        const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
        const bytes = files.map((file) => readFileSync(join(file.parentPath ?? file.path, file.name)));
        const holds = (text) => bytes.some((content) => content.includes(text.split(" ").at(-1)));
        expect("what was not encrypted is found", true, open.some(holds));
        expect("what was", [], written.filter(holds));
    },
};

// The SDK has its own opinion about what to print; the lines of this walk are the result.
console.log = console.debug = console.info = console.warn = console.error = () => {};
const print = (line) => process.stdout.write(`${line}\n`);

let status = 0;
for (const [name, step] of Object.entries(STEPS)) {
    const began = performance.now();
    try {
        await step();
    } catch (error) {
        print(`WRONG  ${name}\n       ${error instanceof Wrong ? error.message : error.stack}`);
        status = 1;
        break;
    }
    print(`ok     ${name} (${Math.round(performance.now() - began)} ms)`);
}
for (const client of running) client.stopClient();
process.exit(status);

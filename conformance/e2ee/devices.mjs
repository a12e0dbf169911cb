// Devices with matrix-js-sdk and its Rust crypto, as many as are asked for, told what to do by lines of JSON.
//
// Each line in has an `id`, what to `do` and its arguments; each line out has the `id` and what came of it, or an `error`. What a device cannot
// read comes as `failure` with the SDK's own word for the reason.

import { createDecipheriv, createHash } from "node:crypto";
import { createInterface } from "node:readline";
import sdk, { ClientEvent, MatrixEvent, SyncState } from "matrix-js-sdk";

// The SDK is written for Node 22; this is all that 20 lacks of it.
Promise.withResolvers ??= function () {
    const parts = {};
    parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }));
    return parts;
};

// What the SDK asks for by itself fails when a client logs out or stops; what was told to a device answers for itself.
process.on("unhandledRejection", () => {});

const POLL_MS = 20;
const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => quiet };
const devices = new Map();

async function see(what, within_ms, look) {
    const deadline = Date.now() + within_ms;
    for (;;) {
        const found = await look();
        if (found) return found;
        if (Date.now() > deadline) throw new Error(`expected ${what} within ${within_ms} ms`);
        await new Promise((resume) => setTimeout(resume, POLL_MS));
    }
}

const anonymous = (base) => sdk.createClient({ baseUrl: base, logger: quiet });

const told = {
    /** A new device of an account, which is made if it is not there and `make` is set. */
    async begin({ device, base, user, password, make, recovery_key }) {
        const login = { type: "m.login.password", identifier: { type: "m.id.user", user }, password };
        const account = make
            ? await anonymous(base).registerRequest({ username: user, password, auth: { type: "m.login.dummy" } })
            : await anonymous(base).loginRequest(login);
        const recovery = { key: recovery_key && Uint8Array.from(Buffer.from(recovery_key, "base64")) };
        const network = { away: false };
        const reach = async (...request) => {
            const answer = network.away || (await fetch(...request));
            if (network.away) throw new TypeError("there is no network here");
            return answer;
        };
        const client = sdk.createClient({
            baseUrl: base,
            fetchFn: reach,
            userId: account.user_id,
            accessToken: account.access_token,
            deviceId: account.device_id,
            disableVoip: true,
            logger: quiet,
            cryptoCallbacks: {
                getSecretStorageKey: async ({ keys }) => [Object.keys(keys)[0], recovery.key],
                cacheSecretStorageKey: (_id, _info, key) => (recovery.key = key),
            },
        });
        devices.set(device, { client, recovery, network });
        await client.initRustCrypto({ useIndexedDB: false });
        const prepared = new Promise((resume) => {
            client.on(ClientEvent.Sync, (state) => state === SyncState.Prepared && resume());
        });
        await client.startClient({ initialSyncLimit: 200, pollTimeout: 2000 });
        await prepared;
        return { user_id: account.user_id, device_id: account.device_id, access_token: account.access_token };
    },

    /** Is somewhere without a network, or back. */
    async network({ device, away }) {
        const { client, network } = devices.get(device);
        network.away = away;
        if (!away) client.retryImmediately();
        return {};
    },

    async create({ device, invite, rotation_msgs, history }) {
        const algorithm = "m.megolm.v1.aes-sha2";
        const content = { algorithm, ...(rotation_msgs && { rotation_period_msgs: rotation_msgs }) };
        const initial_state = [{ type: "m.room.encryption", state_key: "", content }];
        if (history) initial_state.push({ type: "m.room.history_visibility", state_key: "", content: { history_visibility: history } });
        const { client } = devices.get(device);
        return { room: (await client.createRoom({ preset: "private_chat", invite, initial_state })).room_id };
    },

    /** Waits until this device knows so many members of a room, and that it is encrypted. */
    async knows({ device, room, joined, within_ms }) {
        const { client } = devices.get(device);
        await see(`${joined} members of an encrypted room`, within_ms, async () => {
            const known = client.getRoom(room);
            if (known?.getJoinedMemberCount() !== joined) return false;
            return client.getCrypto().isEncryptionEnabledInRoom(room);
        });
        return {};
    },

    async join({ device, room, via }) {
        const { client } = devices.get(device);
        await client.joinRoom(room, via ? { viaServers: via } : {});
        return {};
    },

    async member({ device, room, user, how }) {
        const { client } = devices.get(device);
        if (how === "leave") await client.leave(room);
        else await client[how](room, user);
        return {};
    },

    /** Says something; the event, the session it was encrypted with. */
    async say({ device, room, body, within_ms }) {
        const { client } = devices.get(device);
        const { event_id } = await client.sendEvent(room, "m.room.message", { msgtype: "m.text", body });
        const wire = await see("the own message", within_ms, () => {
            const event = client.getRoom(room)?.findEventById(event_id);
            return event?.getWireType() === "m.room.encrypted" && event.getWireContent();
        });
        return { event_id, session_id: wire.session_id };
    },

    /** What stands in an event, or why it cannot be read. */
    async read({ device, room, event, within_ms }) {
        const { client } = devices.get(device);
        const look = () => {
            const found = client.getRoom(room)?.findEventById(event);
            return found && !found.isBeingDecrypted() && !found.isDecryptionFailure() && found.getContent().body && found;
        };
        try {
            return { body: (await see("a readable event", within_ms, look)).getContent().body };
        } catch {
            const found = client.getRoom(room)?.findEventById(event);
            return { failure: found ? (found.decryptionFailureReason ?? "unread") : "not there" };
        }
    },

    /** The file that an event carries: as the server has it, and decrypted. */
    async fetch({ device, room, event, within_ms }) {
        const { client } = devices.get(device);
        const carries = () => client.getRoom(room)?.findEventById(event)?.getContent().file;
        const file = await see("an event that carries an encrypted file", within_ms, carries);
        const url = client.mxcUrlToHttp(file.url, undefined, undefined, undefined, false, true, true);
        const kept = await see("the file", within_ms, async () => {
            const answer = await fetch(url, { headers: { authorization: `Bearer ${client.getAccessToken()}` } });
            return answer.ok && Buffer.from(await answer.arrayBuffer());
        });
        const hash = createHash("sha256").update(kept).digest("base64").replace(/=+$/, "");
        if (hash !== file.hashes.sha256) throw new Error("the file is not the one that its sender hashed");
        const opening = createDecipheriv("aes-256-ctr", Buffer.from(file.key.k, "base64url"), Buffer.from(file.iv, "base64"));
        const data = Buffer.concat([opening.update(kept), opening.final()]);
        return { kept: kept.toString("base64"), data: data.toString("base64") };
    },

    /** Tries to decrypt an event that somebody hands over, whatever the room says about who may see it. */
    async decrypt({ device, event }) {
        const { client } = devices.get(device);
        const handed = new MatrixEvent(event);
        await client.decryptEventIfNeeded(handed, { emit: false });
        if (handed.isDecryptionFailure()) return { failure: handed.decryptionFailureReason ?? "unread" };
        return { body: handed.getContent().body };
    },

    /** An identity, a recovery key and a backup of keys. */
    async back_up({ device }) {
        const { client, recovery } = devices.get(device);
        const crypto = client.getCrypto();
        await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: (make) => make(null) });
        const key = await crypto.createRecoveryKeyFromPassphrase();
        recovery.key = key.privateKey;
        await crypto.bootstrapSecretStorage({ createSecretStorageKey: async () => key, setupNewSecretStorage: true, setupNewKeyBackup: true });
        await crypto.checkKeyBackupAndEnable();
        return { recovery_key: Buffer.from(key.privateKey).toString("base64") };
    },

    /** Another identity, secret storage and backup in place of those whose keys nobody has any more. */
    async begin_anew({ device, user, password }) {
        const crypto = devices.get(device).client.getCrypto();
        const login = { type: "m.login.password", identifier: { type: "m.id.user", user }, password };
        const replace = (make) => make(null).catch((refused) => make({ ...login, session: refused.data.session }));
        await crypto.resetEncryption(replace);
        return {};
    },

    /** Takes all keys out of the backup; how many. */
    async recover({ device }) {
        const { client } = devices.get(device);
        const crypto = client.getCrypto();
        await crypto.bootstrapCrossSigning({});
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto.checkKeyBackupAndEnable();
        const { imported } = await crypto.restoreKeyBackup();
        return { imported };
    },

    /** Waits until this device knows just so many devices of somebody. */
    async sees_devices({ device, user, count, within_ms }) {
        const crypto = devices.get(device).client.getCrypto();
        const known = async () => (await crypto.getUserDeviceInfo([user], true)).get(user)?.size ?? 0;
        await see(`${count} devices of ${user}`, within_ms, async () => (await known()) === count);
        return {};
    },

    async rename({ device, name }) {
        await devices.get(device).client.setDisplayName(name);
        return {};
    },

    async log_out({ device }) {
        const { client } = devices.get(device);
        await client.logout(true);
        return {};
    },
};

console.log = console.debug = console.info = console.warn = console.error = () => {};
for await (const line of createInterface({ input: process.stdin })) {
    const { id, do: what, ...more } = JSON.parse(line);
    const answer = (fields) => process.stdout.write(`${JSON.stringify({ id, ...fields })}\n`);
    told[what](more).then(answer, (error) => answer({ error: String(error?.message ?? error) }));
}
process.exit(0);

// A kvbus client for Node.js, written from kvbus/wire/PROTOCOL.md alone: one ZeroMQ socket and one CBOR library.

import { Decoder, Encoder } from "cbor-x";
import { Dealer, Request } from "zeromq";

// Left to itself cbor-x writes records, a tag of its own, in place of maps, and lengths of maps in two bytes.
const encoder = new Encoder({ useRecords: false, variableMapSize: true });
const decoder = new Decoder({ useRecords: false, mapsAsObjects: true });

const SETTINGS = {
    linger: 0,
    immediate: true,
    heartbeatInterval: 500,
    heartbeatTimeout: 1500,
    reconnectMaxInterval: 2000,
};

export class Client {
    #socket;
    #framed;
    #nextId = 1;
    #waiting = new Map();
    #sending = Promise.resolve();

    // `kind` is "dealer", "req" or "framed-dealer", which sends an empty frame before the body, as a REQ does unseen.
    constructor(endpoint, kind) {
        this.#socket = kind === "req" ? new Request(SETTINGS) : new Dealer(SETTINGS);
        this.#framed = kind === "framed-dealer";
        this.#socket.connect(endpoint);
        if (this.#socket instanceof Dealer) this.#receiveAll();
    }

    // Send a request; return the promise of its reply, a map. A DEALER has any number under way, a REQ one.
    request(op, fields = {}) {
        const id = this.#nextId++;
        const body = encoder.encode({ id, op, ...fields });
        const reply = new Promise((resolve) => this.#waiting.set(id, resolve));
        this.#sending = this.#sending.then(() => this.#send(body));
        return reply;
    }

    close() {
        this.#socket.close();
    }

    // A socket of the zeromq package sends one message at a time, so requests queue up for it.
    async #send(body) {
        await this.#socket.send(this.#framed ? ["", body] : body);
        if (this.#socket instanceof Request) this.#settle(await this.#socket.receive());
    }

    async #receiveAll() {
        for await (const frames of this.#socket) this.#settle(frames);
    }

    #settle(frames) {
        if (this.#framed && frames.shift()?.length !== 0) throw new Error("a framed request got an unframed reply");
        if (frames.length !== 1) throw new Error(`a reply has one body, not ${frames.length} frames`);
        const reply = decoder.decode(frames[0]);
        const resolve = this.#waiting.get(reply.id);
        // This client gives up on nothing. One that does drops such a reply.
        if (!resolve) throw new Error(`nobody waits for the reply ${JSON.stringify(reply)}`);
        this.#waiting.delete(reply.id);
        resolve(reply);
    }
}

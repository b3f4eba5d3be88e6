/**
 * What may stand in a route file: the one description that the reader, the check and
 * docs/route.schema.json are made from. Options come from the tables by themselves.
 */

import { InvalidArgumentError } from "commander";
import {
  ANSWER_OPTIONS,
  CLOSE_OPTIONS,
  DELIVERY_OPTIONS,
  HEARTBEAT_OPTIONS,
  KEEP_ALIVE_OPTIONS,
  PACE_OPTIONS,
  QUEUE_OPTIONS,
  RELAY_OPTIONS,
  SESSION_OPTIONS,
  SOCKET_OPTIONS,
  TLS_OPTIONS,
  VIA_OPTIONS,
} from "../../base/option_table.ts";
import { STATUS_OPTIONS } from "../../base/subpath_option_table.ts";
import { type OptionSpec, type OptionTable, takes } from "../../base/options.ts";
import { FRAMING_NAMES } from "../../framing/framing.ts";
import { CONFIRM } from "../arguments/answers.ts";
import { KEEP_ALIVE, LOG_OPTIONS, TLS } from "../arguments/options.ts";
import { parseValue, ruleInWords } from "../arguments/option_adder.ts";
import { VIA } from "../arguments/proxy.ts";
import { HEARTBEAT, regExpOf, SESSION, type Typed, unescape } from "../arguments/session.ts";
import {
  checkedFraming,
  checkedQueue,
  OVERSIZES,
  parseHttpAddress,
  parseListen,
  parseMode,
  parseRemoteArgument,
} from "../arguments/values.ts";

/** One value: text, a number, true or false, or a small object that is read as a whole. */
export interface ValueField {
  readonly kind: "value";
  /** What it is for, in one line. */
  readonly words: string;
  /** What the commands' options call it; empty: a part of the list that it stands in. */
  readonly to: readonly string[];
  /** @throws {InvalidArgumentError} It is none; says what is expected. */
  readonly read: (value: unknown) => unknown;
  /** The same for editors. */
  readonly schema: Readonly<Record<string, unknown>>;
}

export interface ObjectField {
  readonly kind: "object";
  readonly words: string;
  readonly fields: Fields;
  readonly required?: readonly string[];
  /** At least one of these has to be there. */
  readonly oneOf?: readonly string[];
  /** Fields that need another one. */
  readonly needs?: readonly (readonly [field: string, other: string])[];
  /** The option that `false` in its place switches off. */
  readonly orFalse?: string;
}

export interface ListField {
  readonly kind: "list";
  readonly words: string;
  readonly to: readonly string[];
  readonly item: ObjectField | ValueField;
}

export type Field = ValueField | ObjectField | ListField;
export interface Fields {
  readonly [name: string]: Field;
}

const TEXT = { type: "string", minLength: 1 };

/** An option of a table: as on the command line, or a number in the unit of its name. */
function optionField(spec: OptionSpec, to: string): ValueField {
  const written = spec.type === "duration" || spec.type === "size";
  return {
    kind: "value",
    words: spec.help,
    to: [to],
    read: (value) => {
      if (written && typeof value === "string") return parseValue(spec, value);
      if (takes(spec, value)) return value;
      throw new InvalidArgumentError(`It ${ruleInWords(spec)}.`);
    },
    schema: schemaOf(spec),
  };
}

function tableFields(table: OptionTable, prefix = ""): Record<string, ValueField> {
  return Object.fromEntries(
    Object.entries(table).map(([name, spec]) => [name, optionField(spec, prefix + name)]),
  );
}

function schemaOf(spec: OptionSpec): Record<string, unknown> {
  switch (spec.type) {
    case "choice":
      return { enum: spec.choices, default: spec.default };
    case "switch":
      return { type: "boolean", ...(spec.default === undefined ? {} : { default: spec.default }) };
    case "name":
      return { type: "string", minLength: 1, maxLength: 15 };
    case "text":
      return TEXT;
    case "texts":
      return { type: "array", items: TEXT };
    default: {
      const { min, max, aboveMin, fraction, step } = spec;
      const number = {
        type: fraction ? "number" : "integer",
        ...(aboveMin ? { exclusiveMinimum: min } : { minimum: min }),
        maximum: max,
        ...(step === undefined ? {} : { multipleOf: step }),
      };
      if (spec.type === "count") return number;
      const text = spec.type === "duration"
        ? String.raw`^\d+(\.\d+)?(ms|s|m|h|d)$` + (spec.endless ? "|^never$" : "")
        : String.raw`^\d+(\.\d+)?(B|[kK]B|MB|GB|KiB|MiB|GiB)?$`;
      return { anyOf: [number, { type: "string", pattern: text }] };
    }
  }
}

function textField(
  words: string,
  to: string | readonly string[],
  read: (text: string) => unknown = (text) => text,
  schema: Readonly<Record<string, unknown>> = {},
): ValueField {
  return {
    kind: "value",
    words,
    to: typeof to === "string" ? [to] : to,
    read: (value) => {
      if (typeof value === "string" && value !== "") return read(value);
      throw new InvalidArgumentError("It must be text in quotes, not empty.");
    },
    schema: { ...TEXT, ...schema },
  };
}

/** One of a few words, of which the commands say which one counts where none is given. */
function choiceField(words: string, to: string, choices: readonly string[]): ValueField {
  const [fallback = ""] = choices;
  const field = optionField({ type: "choice", help: words, choices, default: fallback }, to);
  return { ...field, schema: { enum: choices } };
}

function framingField(words: string, to: string): ValueField {
  return {
    kind: "value",
    words: `${words}: a name, a description as text, or as an object`,
    to: [to],
    read: checkedFraming,
    schema: {
      anyOf: [
        { enum: FRAMING_NAMES },
        { type: "string", pattern: "^(delimiter|frame|length|fixed):" },
        {
          type: "object",
          required: ["kind"],
          properties: {
            kind: { enum: ["delimiter", "frame", "length", "fixed", "octet-counting", "chunks"] },
          },
        },
      ],
    },
  };
}

/** Text with escapes, or an object of one of these forms. */
function typedField(
  words: string,
  to: readonly string[],
  forms: readonly (keyof typeof FORMS)[],
): ValueField {
  const objects = forms.map((form) => ({
    type: "object",
    additionalProperties: false,
    required: [form],
    properties: { [form]: TEXT },
  }));
  const read = (value: unknown) => typedOf(value, forms);
  return { kind: "value", words, to, read, schema: { anyOf: [TEXT, ...objects] } };
}

/** Bytes as text with escapes or from a file; where an answer is meant, a `RegExp`, too. */
function bytesField(words: string, to: readonly string[], isPattern = false): ValueField {
  return typedField(words, to, isPattern ? ["file", "regexp"] : ["file"]);
}

/** Text that an answer begins with, or `{ "regexp": "…" }`, which is searched in it. */
function patternField(words: string, to: string): ValueField {
  return typedField(words, [to], ["regexp"]);
}

const FORMS = { file: '{ "file": "PATH" }', regexp: '{ "regexp": "SOURCE" }' } as const;

/** @param forms What may stand there besides text. */
function typedOf(value: unknown, forms: readonly (keyof typeof FORMS)[]): Typed {
  if (typeof value === "string") {
    // Taken as text, what the command's options take for a pattern would wait for its slashes.
    if (forms.includes("regexp") && /^\/.+\/$/s.test(value)) {
      throw new InvalidArgumentError(
        `A pattern is ${FORMS.regexp} here. Text that begins with / is \\\\x2f.`,
      );
    }
    return unescape(value);
  }
  const [[name, text] = [], ...others] = isObject(value) ? Object.entries(value) : [];
  const form = forms.find((form) => form === name);
  if (form !== undefined && others.length === 0 && typeof text === "string" && text !== "") {
    return form === "file" ? { file: text } : regExpOf(text);
  }
  const expected = forms.map((form) => FORMS[form]).join(" or ");
  throw new InvalidArgumentError(`It must be text in quotes, or ${expected}.`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const STEP: ObjectField = {
  kind: "object",
  words: "something to send, an answer to expect, or both",
  oneOf: ["send", "expect"],
  needs: [["refuse", "expect"], ["framing", "expect"]],
  fields: {
    send: bytesField("sent first", []),
    expect: bytesField("what the server has to answer", [], true),
    refuse: bytesField("an answer that is a refusal", [], true),
    framing: { ...framingField("how the answer ends", "framing"), to: [] },
    timeoutMs: {
      ...optionField({ ...SESSION_OPTIONS.timeoutMs, min: 1, help: "for the answer" }, ""),
      to: [],
    },
  },
};

const SESSION_FIELD: ObjectField = {
  kind: "object",
  words: "what the protocol wants on each connection beside the packets",
  fields: {
    open: {
      kind: "list",
      words: "what each connection begins with",
      to: ["sessionOpen"],
      item: STEP,
    },
    heartbeat: {
      kind: "object",
      words: "bytes in quiet times",
      required: ["send"],
      fields: {
        send: bytesField("sent in quiet times", ["heartbeat"]),
        expect: bytesField("what it is answered by", ["heartbeatExpect"], true),
        ...tableFields(HEARTBEAT_OPTIONS, HEARTBEAT),
      },
    },
    close: bytesField("sent before the connection is ended in order", ["goodbye"]),
    ...tableFields(SESSION_OPTIONS, SESSION),
  },
};

const CONFIRM_FIELD: ObjectField = {
  kind: "object",
  words: "what confirms a packet",
  required: ["level"],
  fields: {
    level: choiceField(
      "the kernel's acknowledgement, the program that has read it, or its answer",
      "confirm",
      ["kernel", "reader", "answer"],
    ),
    framing: framingField("how answers are told apart", "answerFraming"),
    accepted: patternField("what an answer is that accepts", "accepted"),
    refused: patternField("what one is that refuses", "refused"),
    keyOf: patternField("the key of a packet, as its group named key", "packetKey"),
    ...tableFields(ANSWER_OPTIONS, CONFIRM),
  },
};

/** How packets come in from clients. */
const RELAY_FIELD: ObjectField = {
  kind: "object",
  words: "clients that packets come from; without it, they come by sendq enqueue",
  required: ["listen"],
  fields: {
    listen: {
      kind: "list",
      words: "where clients connect",
      to: ["listen"],
      item: textField("tcp://HOST:PORT or unix:PATH", [], parseListen, {
        pattern: "^(tcp://|unix:/)",
      }),
    },
    socketMode: textField(
      'who may connect to a Unix socket: "660"',
      "socketMode",
      parseMode,
      { pattern: "^0?[0-7]{3}$" },
    ),
    ...tableFields(RELAY_OPTIONS),
  },
};

const URL_SCHEMA = { type: "string", pattern: "^((tcp|tls|listen)://|unix:/)" } as const;

/** One server, or several in order of preference. */
const REMOTE_FIELD: ValueField = {
  kind: "value",
  words: "the server: tcp://HOST:PORT, tls://HOST:PORT, unix:PATH, or a list of them in order " +
    "of preference; listen://HOST:PORT for one that connects to us",
  to: ["remote", "to"],
  read: (value) => {
    const urls: unknown[] = [value].flat();
    if (urls.length === 0) throw new InvalidArgumentError("It must not be empty.");
    if (urls.every((url) => typeof url === "string" && url !== "")) {
      return parseRemoteArgument(urls.join(","));
    }
    throw new InvalidArgumentError("It must be text in quotes, or a list of such texts.");
  },
  schema: { anyOf: [URL_SCHEMA, { type: "array", minItems: 1, items: URL_SCHEMA }] },
};

/** One route: a queue, a server, and all that lies between. */
export const ROUTE: ObjectField = {
  kind: "object",
  words: "packets from one queue to one server",
  required: ["queue", "remote"],
  needs: [["output", "input"]],
  fields: {
    queue: textField(
      "the queue's file, which is made where there is none, or " +
        "postgres://USER@HOST/DATABASE/QUEUE",
      "queue",
      checkedQueue,
    ),
    remote: REMOTE_FIELD,
    relay: RELAY_FIELD,
    input: framingField("how packets are told apart where they come from", "input"),
    output: framingField("how they are told apart on the wire", "output"),
    oversize: choiceField("what becomes of a packet that is too large", "oversize", OVERSIZES),
    queueOptions: { kind: "object", words: "the queue", fields: tableFields(QUEUE_OPTIONS) },
    ...tableFields(DELIVERY_OPTIONS),
    ...tableFields(PACE_OPTIONS),
    ...tableFields(CLOSE_OPTIONS),
    session: SESSION_FIELD,
    confirm: CONFIRM_FIELD,
    tls: {
      kind: "object",
      words: "how TLS is spoken with a tls:// server; ca, cert, key and passphrase name files",
      fields: tableFields(TLS_OPTIONS, TLS),
    },
    via: {
      kind: "object",
      words: "the proxy that connections go through; credentials names a file",
      required: ["url"],
      fields: tableFields(VIA_OPTIONS, VIA),
    },
    socket: {
      kind: "object",
      words: "options of the socket",
      fields: {
        ...tableFields(SOCKET_OPTIONS),
        keepAlive: {
          kind: "object",
          words: "probes on an idle connection; false: none",
          orFalse: "keepalive",
          fields: tableFields(KEEP_ALIVE_OPTIONS, KEEP_ALIVE),
        },
      },
    },
    libc: textField("the C library, where it is none of the usual paths", "libc"),
    libssl: textField(
      "OpenSSL's libssl for confirm reader, where it is none of the usual paths",
      "libssl",
    ),
  },
};

/** What a process has once, however many routes. */
export const PROCESS: Fields = {
  http: {
    kind: "object",
    words: "the status page, with /metrics and /healthz",
    required: ["address"],
    fields: {
      address: textField("where it is served: 127.0.0.1:9465", "http", parseHttpAddress),
      tokenFile: textField("the file with what readers have to know", "httpTokenFile"),
      showPayloads: optionField(
        { type: "switch", help: "show the first bytes of the oldest packet" },
        "httpPayloads",
      ),
      ...tableFields(STATUS_OPTIONS),
    },
  },
  log: {
    kind: "object",
    words: "log lines on stderr",
    fields: {
      level: choiceField("lines below it are left out", "logLevel", ["debug", "info", "warn"]),
      format: optionField(LOG_OPTIONS.logFormat, "logFormat"),
      statusIntervalMs: optionField(LOG_OPTIONS.statusIntervalMs, "statusIntervalMs"),
    },
  },
};

/** Names of routes: they stand in paths, labels and log lines. */
export const ROUTE_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

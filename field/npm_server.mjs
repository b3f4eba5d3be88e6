/**
 * Servers made with libraries from npm, as their READMEs make them:
 * `node npm_server.mjs NAME PORT OUTPUT`, in the directory that has node_modules.
 * Each message becomes a line of OUTPUT, written before the next one is looked at.
 * A plain module: Node runs it as it is, as it would run a user's server.
 */
import { Buffer } from "node:buffer";
import { openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import process from "node:process";

const require = createRequire(`${process.cwd()}/`);
const [name, portText, output] = process.argv.slice(2);
const port = Number(portText);
const host = "127.0.0.1";
const file = openSync(output, "a");

function write(line) {
  writeSync(file, `${line}\n`);
}

function writeNumber(number) {
  write(`m${String(number).padStart(6, "0")}z`);
}

/** Of those that have a word for it: the seventh of each fifty, as field/servers.ts expects. */
function refuses(number) {
  return number % 50 === 7;
}

function numberIn(text) {
  return Number(/m(\d{6})z/.exec(text)?.[1]);
}

/** The message's own words, or what came in their place. */
function writeToken(text) {
  write(/m\d{6}z/.exec(text)?.[0] ?? `bad: ${JSON.stringify(text).slice(0, 200)}`);
}

function listen(onConnection) {
  net.createServer((socket) => {
    socket.on("error", () => {});
    onConnection(socket);
  }).listen(port, host);
}

const SERVERS = {
  smpp() {
    const smpp = require("smpp");
    const server = smpp.createServer((session) => {
      let bound = false;
      session.on("error", () => {});
      session.on("bind_transceiver", (pdu) => {
        bound = pdu.system_id === "field" && pdu.password === "secret";
        session.send(pdu.response(bound ? {} : { command_status: smpp.ESME_RBINDFAIL }));
      });
      session.on("enquire_link", (pdu) => session.send(pdu.response()));
      session.on("unbind", (pdu) => session.send(pdu.response()));
      session.on("submit_sm", (pdu) => {
        const text = String(pdu.short_message.message ?? pdu.short_message);
        if (!bound) return session.send(pdu.response({ command_status: smpp.ESME_RINVBNDSTS }));
        if (refuses(numberIn(text))) {
          return session.send(pdu.response({ command_status: smpp.ESME_RINVDSTADR }));
        }
        writeToken(text);
        session.send(pdu.response());
      });
    });
    server.listen(port, host);
  },

  teltonika() {
    const { parseIMEI, ProtocolParser } = require("complete-teltonika-parser");
    listen((socket) => {
      let imei;
      let rest = Buffer.alloc(0);
      socket.on("data", (data) => {
        rest = Buffer.concat([rest, data]);
        if (imei === undefined) {
          if (rest.length < 17) return;
          const known = rest.readUInt16BE(0) === 15;
          imei = parseIMEI(rest.subarray(0, 17).toString("hex"));
          rest = rest.subarray(17);
          socket.write(Buffer.from([known ? 1 : 0]));
          if (!known) return socket.end();
        }
        while (rest.length >= 8 && rest.length >= 12 + rest.readUInt32BE(4)) {
          const end = 12 + rest.readUInt32BE(4);
          try {
            const packet = new ProtocolParser(rest.subarray(0, end).toString("hex"));
            const numbers = packet.Content.AVL_Datas
              .map(({ Timestamp }) => Timestamp.getTime() - Date.UTC(2026, 0, 1));
            const taken = numbers.some(refuses) ? [] : numbers;
            taken.forEach(writeNumber);
            const answer = Buffer.alloc(4);
            answer.writeUInt32BE(taken.length);
            socket.write(answer);
          } catch (error) {
            write(`bad: ${error.message}`);
          }
          rest = rest.subarray(end);
        }
      });
    });
  },

  gt06() {
    const Gt06 = require("gt06");
    listen((socket) => {
      const tracker = new Gt06();
      socket.on("data", (data) => {
        try {
          tracker.parse(data);
        } catch {
          return; // As its README does.
        }
        if (tracker.expectsResponse) socket.write(tracker.responseMsg);
        tracker.msgBuffer.forEach((message) => {
          if (message.event.string === "location") writeNumber(message.serialNr);
        });
        tracker.clearMsgBuffer();
      });
    });
  },

  hl7() {
    const hl7 = require("simple-hl7");
    const app = hl7.tcp();
    app.use((req, res, next) => {
      const text = req.msg.toString();
      if (refuses(numberIn(text))) res.ack.getSegment("MSA").setField(1, "AE");
      else writeToken(text);
      next();
    });
    app.use((_req, res, _next) => res.end());
    app.use((_error, _req, res, _next) => res.end());
    app.start(port);
  },

  smtp() {
    const { SMTPServer } = require("smtp-server");
    new SMTPServer({
      authOptional: true,
      disabledCommands: ["AUTH", "STARTTLS"],
      disableReverseLookup: true,
      onData(stream, _session, callback) {
        let text = "";
        stream.on("data", (data) => text += data);
        stream.on("end", () => {
          writeToken(text);
          callback();
        });
      },
    }).on("error", () => {}).listen(port, host);
  },

  modbus() {
    const modbus = require("jsmodbus");
    const sockets = net.createServer((socket) => socket.on("error", () => {}));
    const server = new modbus.server.TCP(sockets, { holding: Buffer.alloc(100) });
    server.on("postWriteSingleRegister", ({ body }) => writeNumber(body.value));
    sockets.listen(port, host);
  },

  /** None of npm: it begins to answer, and does not go on. */
  half() {
    listen((socket) => socket.on("data", () => socket.write("+O")));
  },

  /** None of npm: it greets with a refusal. */
  busy() {
    listen((socket) => socket.end("554 no service here\r\n"));
  },
};

SERVERS[name]();

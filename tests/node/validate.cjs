// Validates an AsyncAPI document with AsyncAPI's own parser; prints its diagnostics and channels as JSON.
// The parser is found in the working directory.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");

const installed = createRequire(`${process.cwd()}/`);
const { AvroSchemaParser } = installed("@asyncapi/avro-schema-parser");
const { Parser } = installed("@asyncapi/parser");

const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());
parser.parse(readFileSync(0, "utf8")).then(({ document, diagnostics }) => {
  const channels = document ? document.channels().all().map((channel) => channel.address()) : [];
  console.log(JSON.stringify({ channels, diagnostics }));
});

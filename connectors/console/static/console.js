// The page of campaigns. "/" shows all, "/campaigns/NAME" one. What changes comes as server-sent events.

import { by, complain, shown, showTimes } from "./base.js";
import { openCampaign, refreshCampaign, refreshLedger } from "./campaign.js";
import { openKpis, refreshKpis } from "./kpis.js";
import { showLine, showWall } from "./wall.js";

const KPIS_EVERY_MS = 10000;
const campaigns = new Map();
let settled = {};
const [, , encoded] = location.pathname.split("/");
const shownName = encoded === undefined ? null : decodeURIComponent(encoded);

async function openWall() {
  by("wall").hidden = false;
  await openKpis();
  stream.addEventListener("line", () => refreshKpis(KPIS_EVERY_MS));
}

const stream = new EventSource("/api/stream");
stream.addEventListener("open", () => { by("state").textContent = "live"; });
stream.addEventListener("error", () => {
  by("state").textContent = "not connected; trying again …";
  if (stream.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);  // to sign in again
});
stream.addEventListener("overview", (event) => {
  const { names, wrong, login } = JSON.parse(event.data);
  complain(wrong.join("\n"));
  by("sign-out").hidden = !login;
  for (const name of campaigns.keys()) if (!names.includes(name)) campaigns.delete(name);
  if (!shownName) showWall(campaigns, settled);
});
let due = false;
stream.addEventListener("campaign", (event) => {
  const one = JSON.parse(event.data);
  campaigns.set(one.name, one);
  if (due || (shownName && one.name !== shownName)) return;
  due = true;
  requestAnimationFrame(() => { due = false; shownName ? refreshCampaign() : showWall(campaigns, settled); });
});
stream.addEventListener("settled", (event) => {
  const before = JSON.stringify(settled[shownName]);
  settled = JSON.parse(event.data);
  if (!shownName) showWall(campaigns, settled);
  else if (JSON.stringify(settled[shownName]) !== before) refreshLedger();
});
stream.addEventListener("line", (event) => { if (!shownName) showLine(JSON.parse(event.data)); });
setInterval(showTimes, 1000);
shown(() => shownName ? openCampaign(shownName) : openWall())();

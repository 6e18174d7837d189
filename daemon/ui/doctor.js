// What is wrong with this machine, and which command mends it? Asked for, never by itself.

import { send } from "./daemon.js";
import { byId, make, setText } from "./dom.js";

export function startDoctor() {
  const button = byId("doctor-run"), status = byId("doctor-status"), list = byId("doctor-findings");
  button.addEventListener("click", async () => {
    button.disabled = true;
    setText(status, "Checking; this takes some seconds.");
    try {
      const { findings } = await send("POST", "api/doctor", {});
      list.replaceChildren(...findings.map(show));
      const problems = findings.filter((finding) => finding.is_problem).length;
      setText(status, problems ? `${problems} of these need attention.`
        : findings.length ? "No problems; some notes." : "No problems found.");
    } catch (error) { setText(status, `The check failed: ${error.message}`); }
    button.disabled = false;
    if (document.activeElement === document.body) button.focus();
  });
}

function show(finding) {
  const item = make("li");
  const text = make("span", finding.is_problem ? "text warning" : "text", finding.text);
  const remedy = make("code", "text quiet", finding.remedy);
  item.append(text, remedy);
  return item;
}

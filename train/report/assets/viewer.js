"use strict";
// Charges on the structures of the report: 3Dmol.js draws, this file colours and answers to the controls.
(function () {
  const box = document.getElementById("viewer");
  if (!box) return;
  const message = document.getElementById("viewer-message");
  const probe = document.createElement("canvas");
  if (!(probe.getContext("webgl2") || probe.getContext("webgl"))) {
    message.textContent = "The viewer needs WebGL, which this browser does not offer.";
    return;
  }
  const frames = JSON.parse(document.getElementById("viewer-data").textContent).frames;
  const select = document.getElementById("viewer-frame");
  const quantity = document.getElementById("viewer-quantity");
  const dipoles = document.getElementById("viewer-dipoles");
  const legend = document.getElementById("viewer-legend");
  const details = document.getElementById("viewer-details");
  // quantity -> values of a frame (null: not known), unit, whether it has a sign
  const QUANTITIES = {
    charges: { of: (f) => f.charges, unit: "e", signed: true },
    reference: { of: (f) => f.reference, unit: "e", signed: true },
    difference: { of: (f) => f.reference && f.charges.map((q, i) => q - f.reference[i]), unit: "e", signed: true },
    force_error: { of: (f) => f.force_error, unit: "eV/Å", signed: false },
  };
  const RED = [200, 62, 47], WHITE = [246, 246, 246], BLUE = [31, 88, 170], ORANGE = [201, 110, 20];
  const mix = (a, b, t) => "rgb(" + a.map((x, k) => Math.round(x + (b[k] - x) * t)).join(",") + ")";

  function colour(value, top, signed) {
    const t = top > 0 ? Math.max(-1, Math.min(1, value / top)) : 0;
    if (!signed) return mix(WHITE, ORANGE, Math.abs(t));
    return t < 0 ? mix(WHITE, RED, -t) : mix(WHITE, BLUE, t);
  }

  function xyz(frame) {
    const rows = frame.symbols.map((s, i) => [s, ...frame.positions[i]].join(" "));
    return [rows.length, "", ...rows].join("\n");
  }

  const viewer = $3Dmol.createViewer(box, { backgroundColor: "white", antialias: true });
  const signed = (x) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(3);

  function text(frame, i) {
    const parts = [`${i} ${frame.symbols[i]}`, `model ${signed(frame.charges[i])} e`];
    if (frame.reference) parts.push(`reference ${signed(frame.reference[i])} e`);
    if (frame.force_error) parts.push(`force off by ${frame.force_error[i].toFixed(3)} eV/Å`);
    return parts.join(" · ");
  }

  function arrows(frame, vectors, shade) {
    const longest = Math.max(...vectors.map((v) => Math.hypot(...v)), 1e-9);
    const factor = 1.4 / longest; // the longest is 1.4 Å on the screen
    vectors.forEach((v, i) => {
      const length = Math.hypot(...v) * factor;
      if (length < 0.05) return;
      const [x, y, z] = frame.positions[i];
      const end = { x: x + factor * v[0], y: y + factor * v[1], z: z + factor * v[2] };
      viewer.addArrow({ start: { x, y, z }, end, radius: 0.05, radiusRatio: 2.2, mid: 0.7, color: shade });
    });
  }

  function draw(newFrame) {
    const frame = frames[select.value];
    const chosen = QUANTITIES[quantity.value];
    const values = chosen.of(frame);
    if (newFrame) {
      viewer.removeAllModels();
      viewer.addModel(xyz(frame), "xyz");
    }
    viewer.removeAllShapes();
    const top = values ? Math.max(...values.map(Math.abs), 1e-3) : 0;
    const colorfunc = (atom) => (values ? colour(values[atom.serial], top, chosen.signed) : "#c8ccd1");
    viewer.setStyle({}, { sphere: { scale: 0.32, colorfunc }, stick: { radius: 0.12, colorfunc } });
    if (frame.cell) cell(frame.cell);
    if (dipoles.checked) {
      arrows(frame, frame.dipoles, "#3f8f5b");
      if (frame.reference_dipoles) arrows(frame, frame.reference_dipoles, "#9aa4af");
    }
    viewer.setHoverDuration(60);
    viewer.setHoverable({}, true, (atom) => { details.textContent = text(frame, atom.serial); }, () => { details.textContent = ""; });
    if (newFrame) {
      viewer.zoomTo();
      viewer.zoom(1.1);
    }
    viewer.render();
    scale(values, top, chosen);
  }

  function cell(rows) {
    const corner = (a, b, c) => {
      const [x, y, z] = [0, 1, 2].map((k) => a * rows[0][k] + b * rows[1][k] + c * rows[2][k]);
      return { x, y, z };
    };
    for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      for (const ends of [[corner(0, u, v), corner(1, u, v)], [corner(u, 0, v), corner(u, 1, v)], [corner(u, v, 0), corner(u, v, 1)]]) {
        viewer.addLine({ start: ends[0], end: ends[1], color: "#8a939d", linewidth: 1 });
      }
    }
  }

  function scale(values, top, chosen) {
    legend.textContent = "";
    if (!values) {
      legend.textContent = "the data have no such label";
      return;
    }
    const bar = document.createElement("span");
    bar.className = "bar";
    const stops = chosen.signed ? [-1, -0.5, 0, 0.5, 1] : [0, 0.5, 1];
    bar.style.background = `linear-gradient(to right, ${stops.map((t) => colour(t * top, top, chosen.signed)).join(",")})`;
    const low = document.createElement("span"), high = document.createElement("span");
    low.textContent = chosen.signed ? "−" + top.toFixed(3) : "0";
    high.textContent = (chosen.signed ? "+" : "") + top.toFixed(3) + " " + chosen.unit;
    legend.append(low, bar, high);
  }

  frames.forEach((frame, i) => select.add(new Option(frame.name, i)));
  select.addEventListener("change", () => draw(true));
  quantity.addEventListener("change", () => draw(false));
  dipoles.addEventListener("change", () => draw(false));
  window.addEventListener("resize", () => viewer.resize());
  message.remove();
  draw(true);
  box.dataset.ready = "true";
})();

"use strict";
(() => {
  // -- tables ---------------------------------------------------------------

  const valueOf = (row, column) => {
    const value = row.cells[column].dataset.value;
    if (value === undefined) return null;
    const number = Number(value);
    return value !== "" && !Number.isNaN(number) ? number : value;
  };

  const compare = (one, other) => {
    if (typeof one === "number" && typeof other === "number") return one - other;
    if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
    return one.localeCompare(other, undefined, { numeric: true });
  };

  const sortBy = (table, header) => {
    const column = header.cellIndex;
    const isUp = header.getAttribute("aria-sort") !== "ascending";
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row, place) => [valueOf(row, column), place, row]);
    rows.sort(([one, first], [other, second]) => {
      // What has no value comes last, whichever way.
      if (one === null || other === null) {
        return (one === null) - (other === null) || first - second;
      }
      return (isUp ? compare(one, other) : compare(other, one)) || first - second;
    });
    body.append(...rows.map(([, , row]) => row));
    for (const each of header.parentNode.cells) each.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", isUp ? "ascending" : "descending");
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].cells) {
      header.querySelector("button").addEventListener("click", () => sortBy(table, header));
    }
  }

  // -- charts ---------------------------------------------------------------

  const holder = document.getElementById("charts");
  const charts = holder ? JSON.parse(holder.textContent) : {};
  const isNarrow = () => window.innerWidth <= 600;
  const isTouched = window.matchMedia("(pointer: coarse)");

  const template = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--line"), linecolor: colour("--soft"), zerolinecolor: colour("--line"),
      zeroline: false, showline: true, ticks: "outside", tickcolor: colour("--soft"), ticklen: 4,
      separatethousands: true, exponentformat: "none",
      title: { standoff: 8, font: { size: 13 } }, automargin: true,
    };
    return {
      layout: {
        font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        modebar: {
          bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--accent"),
        },
        xaxis: axis, yaxis: axis, hovermode: "closest", showlegend: false,
        hoverlabel: { align: "left", bgcolor: colour("--paper"), font: { color: colour("--ink") } },
      },
    };
  };

  const layoutOf = (view) => ({
    height: isNarrow() ? 320 : 420,
    ...view.layout,
    template: template(),
    autosize: true,
    dragmode: isTouched.matches ? false : "zoom",
    margin: isNarrow() ? { l: 8, r: 12, t: 28, b: 8 } : { l: 16, r: 24, t: 28, b: 16 },
  });

  // Paper has another width than the window: drawings must be able to shrink.
  const letScale = (drawing) => {
    for (const svg of drawing.querySelectorAll(".main-svg")) {
      const width = svg.getAttribute("width"), height = svg.getAttribute("height");
      if (width && height) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    }
  };

  const swatch = (trace) => {
    const mark = document.createElement("i");
    const line = trace.line || {};
    if (trace.mode === "markers" || trace.type === "bar") {
      mark.className = "mark";
      mark.style.background = trace.marker.color;
    } else {
      mark.style.borderTopColor = line.color;
      mark.style.borderTopStyle = { dash: "dashed", dot: "dotted", dashdot: "dashed" }[line.dash] || "solid";
    }
    return mark;
  };

  const legend = (section, drawing, view) => {
    const list = section.querySelector(".legend");
    list.replaceChildren();
    view.data.forEach((trace, number) => {
      if (trace.showlegend === false) return;
      const item = document.createElement("li");
      const isFixed = trace.meta === "limit";
      const entry = document.createElement(isFixed ? "span" : "button");
      const name = document.createElement("span");
      // Names are escaped for plotly.
      name.textContent = trace.name.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
      entry.append(swatch(trace), name);
      if (isFixed) {
        entry.className = "fixed";
      } else {
        entry.type = "button";
        entry.setAttribute("aria-pressed", "true");
        entry.addEventListener("click", () => {
          const isShown = entry.getAttribute("aria-pressed") !== "true";
          entry.setAttribute("aria-pressed", String(isShown));
          Plotly.restyle(drawing, { visible: isShown }, [number]).then(() => letScale(drawing));
        });
      }
      item.append(entry);
      list.append(item);
    });
  };

  const viewOf = (section) => {
    const choices = Array.from(section.querySelectorAll(".choices select"), (each) => each.value);
    return charts[section.dataset.chart][choices.join("-")];
  };

  const draw = (section) => {
    const view = viewOf(section);
    const drawing = section.querySelector(".drawing");
    const config = {
      displaylogo: false, responsive: true, displayModeBar: isTouched.matches ? false : "hover",
      // By name: plotly's own choice has one that sends the chart to a server.
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
      toImageButtonOptions: { scale: 2, filename: section.dataset.chart },
    };
    legend(section, drawing, view);
    section.querySelector(".note").textContent = view.note;
    return Plotly.react(drawing, structuredClone(view.data), layoutOf(view), config).then(() => letScale(drawing));
  };

  const sections = Array.from(document.querySelectorAll("section.chart"));
  const drawAll = () => sections.forEach(draw);
  for (const section of sections) {
    for (const choice of section.querySelectorAll("select")) {
      choice.addEventListener("change", () => draw(section));
    }
    draw(section).then(() => {
      const drawing = section.querySelector(".drawing");
      drawing.on("plotly_afterplot", () => letScale(drawing));
    });
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

  // -- print ----------------------------------------------------------------

  const opened = [];
  const paperWidth = 720, paperHeight = 300;
  window.addEventListener("beforeprint", () => {
    for (const section of sections) {
      const drawing = section.querySelector(".drawing");
      const height = viewOf(section).layout.height || paperHeight;
      Plotly.relayout(drawing, { width: paperWidth, height });
      letScale(drawing);
    }
    for (const each of document.querySelectorAll("details:not([open])")) {
      each.open = true;
      opened.push(each);
    }
  });
  window.addEventListener("afterprint", () => {
    drawAll();
    while (opened.length) opened.pop().open = false;
  });
})();

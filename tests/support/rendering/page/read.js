// What the panels of the page show, in order; evaluated in the page.
() => {
  const text = (element) => element?.innerText.trim() ?? '';
  const states = window.rendered.panels();

  const legend = (area) => ({
    clipped: [area, ...area.querySelectorAll('*')].some(
      (one) => one.scrollHeight > one.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(one).overflowY)
    ),
    entries: [...area.querySelectorAll('[data-testid="series-icon"]')].map((icon) => {
      let entry = icon;
      while (!entry.querySelector('button[type="button"]')?.innerText.trim()) {
        entry = entry.parentElement;
      }
      const { backgroundColor, backgroundImage } = getComputedStyle(icon);
      const label = [...entry.querySelectorAll('button[type="button"]')].map(text).find(Boolean);
      return { label, colour: backgroundImage === 'none' ? backgroundColor : backgroundImage };
    }),
  });

  const largest = (area) => {
    const size = (one) => parseFloat(getComputedStyle(one).fontSize);
    const values = [...area.querySelectorAll('[style*="font-size"]')].filter((one) => one.style.fontSize && text(one));
    const most = Math.max(0, ...values.map(size));
    return values.filter((one) => size(one) === most).map((one) => ({ text: text(one), colour: getComputedStyle(one).color }));
  };

  return [...document.querySelectorAll('[data-viz-panel-key]')].map((panel) => {
    const content = panel.querySelector('[data-testid="data-testid panel content"]');
    const area = panel.querySelector('[data-testid="data-testid viz-layout-legend"]');
    const { state, frames } = states[panel.dataset.vizPanelKey];
    return {
      title: panel.querySelector('h2')?.title ?? '',
      kind: panel.dataset.pluginId,
      state,
      frames,
      error: panel.querySelector('[data-testid="data-testid Panel status error"]')?.getAttribute('aria-label') ?? '',
      empty: panel.querySelector('[data-empty]') ? text(panel.querySelector('[data-empty]')) : null,
      text: text(content),
      columns: [...panel.querySelectorAll('[role="columnheader"]')].map(text),
      rows: [...panel.querySelectorAll('[role="row"]')]
        .map((row) => [...row.querySelectorAll('[role="gridcell"]')].map(text))
        .filter((row) => row.length),
      links: [...(content?.querySelectorAll('a[href]') ?? [])].map((link) => ({ text: text(link), url: link.getAttribute('href') })),
      lanes: [...panel.querySelectorAll('[data-lane]')].map((lane) => lane.dataset.lane),
      values: panel.dataset.pluginId === 'stat' ? largest(content) : [],
      legend: area ? legend(area) : { clipped: false, entries: [] },
    };
  });
}

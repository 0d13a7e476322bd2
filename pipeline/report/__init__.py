"""One HTML page of what the layers say about an instrument over some days.

`gather` reads committed rows, a day at a time, and keeps their numbers to the last bit; `feeds`
says how good the data are and what is not there; `page` puts both into one file with everything
that is needed to look at them. The page itself is under `web/`, the chart library under
`vendor/`.
"""

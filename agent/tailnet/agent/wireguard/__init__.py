"""The WireGuard protocol as a pure machine; packets are the datapath's business."""
